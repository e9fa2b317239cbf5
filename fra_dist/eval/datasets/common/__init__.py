"""What the readers of data sets share: label files, crop rules, landmark schemes and the labelled face itself."""
