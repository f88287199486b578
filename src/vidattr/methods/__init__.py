"""Attribution methods, one module each, in a folder per family; `shared` holds functions that several families use."""
