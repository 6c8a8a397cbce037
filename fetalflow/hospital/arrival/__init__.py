"""Deliveries in an inbox come in; one accumulated drop, its journal and every patient's side go out."""
