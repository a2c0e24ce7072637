"""How the clients talk: requests, repetitions and answers without any input or output of their own, so that the
synchronous and the asynchronous client are one definition."""
