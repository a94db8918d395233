"""An archive of your own images: built, updated, searched in memory or in Milvus, and shown."""
