"""What operators measure: metrics, and traces where they are wanted. Never patient data, never a UID."""
