"""The library: pure functions and nn.Modules for fetal-ultrasound deep learning. Knows neither DVC nor Prefect."""
