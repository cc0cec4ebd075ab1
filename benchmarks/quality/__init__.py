"""Quality on labelled sets: the embedded model, its trainings, few-shot training and calibration."""
