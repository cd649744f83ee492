"""The DIMSE face: a pynetdicom acceptor whose messages become calls of the services, their outcome statuses."""
