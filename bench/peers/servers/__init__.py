"""Peers: one file each, with its start, its requests, and its settings.

Reading order: protocol (interface of a peer) -> raw_bytes (requests of most peers) -> aiohttp, mosec, mlserver, triton,
litserve, bentoml, ray_serve, bare_kafka (the baseline over Kafka). The programs for their environments are in scripts/.
"""

from typing import Final

from bench.peers.servers.aiohttp import AiohttpPeer
from bench.peers.servers.bare_kafka import BareKafkaPeer
from bench.peers.servers.bentoml import BentoMLPeer
from bench.peers.servers.litserve import LitServePeer
from bench.peers.servers.mlserver import MLServerPeer
from bench.peers.servers.mosec import MosecPeer
from bench.peers.servers.protocol import Peer
from bench.peers.servers.ray_serve import RayServePeer
from bench.peers.servers.triton import TritonPeer

_ALL: Final[tuple[Peer, ...]] = (
    TritonPeer(),
    AiohttpPeer(),
    MosecPeer(),
    MLServerPeer(),
    LitServePeer(),
    BentoMLPeer(),
    RayServePeer(),
    BareKafkaPeer(),
)
PEERS: Final[dict[str, Peer]] = {peer.name: peer for peer in _ALL}
