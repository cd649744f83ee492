"""Who may do what: principals, the policy, and the one door that every request passes."""
