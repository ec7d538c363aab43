"""Shipped data: the embedded foundation model, the frames it was trained on, and the structures they came from."""
