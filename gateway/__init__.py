"""The imaging gateway: faces, services, access, audit and imaging."""

import os

# The numeric library would start threads for a linear algebra that nothing here has, and a process with threads cannot
# be forked safely; it looks when it is first imported.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
