"""Problems of one's own: a model, batches and a loss, trained by the lab's loop."""
