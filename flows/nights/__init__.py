"""What goes on without a person: schedules, alerts, metrics, and requests for promotion."""
