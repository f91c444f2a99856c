"""What a person looks at when a run has results: a page, a contact sheet, a dataset card."""
