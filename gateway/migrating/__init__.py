"""Migration: what an old archive holds is pulled over DIMSE, study by study, and compared with what has arrived."""
