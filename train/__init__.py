"""Training of body-part models: data, networks, fit, measure, export, and the whole experiment."""
