"""Results of requests: by a reply topic, or directly over a connection (a reply stream).

    sender (worker, selector)                         receiver (gateway, client library)
    TLS, if the header names a certificate ->
    HELLO     magic, nonce                 ->
                                           <-         CHALLENGE  nonce, proof that it knows the token
    PROOF     proof that it knows it, too  ->
    frames    a result or part each,       ->
              or keepalive
                                           <-         number of a part for which nobody waits
                                           <-         number of results and parts received so far

A header of the query holds the address and the token of the receiver. The token is random and is valid while the
receiver exists. If results are encrypted, the header also holds the fingerprint of the receiver's certificate. A result
that cannot go this way, or is not acknowledged soon, goes to the reply topic: nothing depends on a stream.

Reading order: address (the query's header, certificates) -> protocol (proofs, results in bytes) -> sender_connection (a
sender's connection to one receiver) -> sender (connections to all receivers) -> receiver (limits for connections,
connections of all senders) -> answer_stream (an answer that comes in parts) -> request_reply (matches results with
requests).
"""
