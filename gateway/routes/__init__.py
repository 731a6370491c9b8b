"""The paths the gateway answers, by what they are about."""
