"""What the predictions on the test images show beyond one mAP: its spread, errors, thresholds."""
