"""Results straight back to whoever waits for them, over one connection a receiver instead of a reply topic.

    sender (worker, selector)                         receiver (gateway, client library)
    TLS, if the header names a certificate ->
    HELLO     magic, nonce                 ->
                                           <-         CHALLENGE  nonce, proof that it knows the token
    PROOF     proof that it knows it, too  ->
    frames    a result each, or keepalive  ->
                                           <-         how many results it has by now

The address and the token, which is random and lives as long as the receiver, come in a header of the query, with the
fingerprint of the receiver's certificate where results are encrypted. Whatever does not go this way, or is not
acknowledged soon, goes to the reply topic: nothing depends on it.

Reading order: encryption (certificates) -> address (the query's header) -> settings (where to listen, where one may
connect to) -> handshake (the proofs) -> frames (results in bytes) -> ack_window (what was sent and is not acknowledged)
-> avoidance (addresses that failed lately) -> sender_connection (one receiver, as seen from a sender) -> sender (all of
them) -> places (which connections a receiver keeps) -> receiver_connection (one sender, as seen from a receiver) ->
receiver (all of them).
"""
