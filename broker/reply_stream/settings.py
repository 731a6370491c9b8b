"""Settings of reply streams, for receivers and senders: `INFAAS_REPLY_STREAM*`."""

from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, ClassVar, Final, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.reply_stream.address import StreamAddress
from broker.setting_errors import in_words
from schemas.defaults import LOOPBACK
from schemas.errors import OperatorError

_ENV: Final = "INFAAS_REPLY_STREAM"


class ReplyStreamSettings(BaseSettings):
    """Settings of both ends of reply streams; those of a sender and of a receiver may differ.

    Raises:
        OperatorError: a value is invalid; the message names the variable.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=f"{_ENV}_", frozen=True, extra="ignore", populate_by_name=True
    )

    enabled: bool = Field(default=True, validation_alias=_ENV)
    """Receive and send results over reply streams; if false, all results go by topic."""
    host: str = LOOPBACK
    """IP address that gateways and clients listen on for results; `0.0.0.0` for all addresses of the machine."""
    port: int = Field(default=0, ge=0, le=65535)
    """Port to listen on; 0: any free one."""
    advertise: str = ""
    """IP address that workers and selectors connect to; the one listened on if empty."""
    tls: bool | None = None
    """Encrypt results, by a certificate that the receiver makes for itself. If not set, results are encrypted if Kafka
    is reached by TLS and the receiver's address is not a loopback address. Workers and selectors then send none in
    clear to other machines."""
    networks: str = "127.0.0.0/8,::1/128"
    """Networks, separated by commas, that workers and selectors connect to. Queries name the address of their receiver;
    outside of these networks their results go by topic."""

    def encrypts_results(self, kafka_encrypted: bool) -> bool:
        """Return true if a receiver takes results by TLS; `kafka_encrypted`: Kafka is reached by TLS."""
        here = ip_address(self.advertise or self.host).is_loopback
        return kafka_encrypted and not here if self.tls is None else self.tls

    def may_send(self, address: StreamAddress, kafka_encrypted: bool) -> bool:
        """Return true if a sender may send results to an address; `kafka_encrypted`: Kafka is reached by TLS."""
        if address.fingerprint:
            return True
        return not (kafka_encrypted and not address.is_loopback if self.tls is None else self.tls)

    @cached_property
    def allowed(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Networks that a sender connects to."""
        return tuple(ip_network(text.strip()) for text in self.networks.split(",") if text.strip())

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for part in filter(None, map(str.strip, text.split(","))):
            ip_network(part)
        return text

    @field_validator("host", "advertise")
    @classmethod
    def _is_address(cls, text: str) -> str:
        if text:
            ip_address(text)
        return text

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            settings = handler(data)
        except ValidationError as error:
            raise OperatorError(in_words(error, f"{_ENV}_", _ENV, "enabled")) from None
        if not settings.advertise and ip_address(settings.host or LOOPBACK).is_unspecified:
            raise OperatorError(f"{_ENV}_HOST={settings.host}: set {_ENV}_ADVERTISE to the address that others reach")
        return settings
