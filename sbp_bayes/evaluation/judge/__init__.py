"""A language model as the judge of documents: questions, who answers them, and the answers kept on disk."""
