"""What the backends on AWS share: clients, the meaning of the SDK's errors, trying again."""
