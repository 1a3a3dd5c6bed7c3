"""Where an event comes in from outside and becomes a call of the library: AWS Lambda."""
