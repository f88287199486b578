"""Steps that methods of several families share."""
