"""Builder of record batches from aiokafka, configured as for a producer without transactions."""

from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder


def batch_builder() -> Any:
    return DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
