"""Who may do what: pure checks, for the gateway, the selector and the command line alike.

No I/O, no clock, no loop, nothing random: what is needed of these comes in as arguments.

Reading order: api_keys, tokens (who asks) -> grants (what a key may hand on) -> quotas (how much they may) -> access
(who may use and change what) -> tenant_classes (who may use the same), sight (what someone sees of
what is registered) -> signature (of queries over Kafka), turned_away (of what gateways count).
"""
