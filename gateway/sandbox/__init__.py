"""The sandbox for integrators: a gateway on sample data, behind something that makes faults when it is asked to.

All of it stands in front of an ordinary ``gateway serve``, in a process of its own: no setting, header or request of
the gateway itself leads here.
"""
