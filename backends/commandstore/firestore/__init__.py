"""Firestore: a document per command, over plain protobuf messages."""
