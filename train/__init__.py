"""Training of body-part models: manifest, augmentation, fit, evaluate, export."""
