"""What is made beside the product: documents and recordings."""
