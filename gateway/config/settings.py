"""The settings tree, and what holds between its sections."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.config.access import AccessSettings
from gateway.config.auditing import AuditSettings, SyslogSettings
from gateway.config.keeping import (
    AWS_CLASSES,
    LifecycleSettings,
    RecompressionRule,
    RetentionRule,
    Rule,
    TransitionRule,
    WorklistSettings,
)
from gateway.config.notifying import WebhookSettings
from gateway.config.section import LOOPBACK, TenantName
from gateway.config.serving import (
    DimseSettings,
    HttpSettings,
    ImagingSettings,
    LimitSettings,
    LogSettings,
    MetricsSettings,
    SearchSettings,
    TracesSettings,
    ViewerSettings,
)
from gateway.config.storing import EncryptionSettings, IndexSettings, S3Section, StorageSettings, TenantSettings
from gateway.config.views import DeidentificationSettings, ViewName, ViewSettings


class Settings(BaseSettings):
    """All settings; the file's sections are the fields."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="GATEWAY_", env_nested_delimiter="__", use_attribute_docstrings=True
    )

    http: HttpSettings = HttpSettings()
    dimse: DimseSettings = DimseSettings()
    search: SearchSettings = SearchSettings()
    storage: StorageSettings = StorageSettings()
    index: IndexSettings = IndexSettings()
    s3: S3Section = S3Section()
    encryption: EncryptionSettings = EncryptionSettings()
    limits: LimitSettings = LimitSettings()
    imaging: ImagingSettings = ImagingSettings()
    viewer: ViewerSettings = ViewerSettings()
    access: AccessSettings = AccessSettings()
    tenants: dict[TenantName, TenantSettings] = {}
    views: dict[ViewName, ViewSettings] = {}
    deidentification: dict[ViewName, DeidentificationSettings] = {}
    retention: tuple[RetentionRule, ...] = ()
    transition: tuple[TransitionRule, ...] = ()
    recompression: tuple[RecompressionRule, ...] = ()
    webhooks: tuple[WebhookSettings, ...] = ()
    lifecycle: LifecycleSettings = LifecycleSettings()
    worklist: WorklistSettings = WorklistSettings()
    audit: AuditSettings = AuditSettings()
    syslog: SyslogSettings = SyslogSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TracesSettings = TracesSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings names them
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.storage.objects == "s3" and not self.s3.bucket:
            raise ValueError('s3.bucket: needed for storage.objects = "s3"')
        if self.index.engine == "postgres" and not self.index.url.get_secret_value():
            raise ValueError('index.url: needed for index.engine = "postgres"')
        if self.s3.cache_bytes and self.s3.cache_bytes < 16 << 20:
            raise ValueError(f"s3.cache_bytes: 0, or at least {16 << 20}, got {self.s3.cache_bytes}")
        if not self.encryption.active_key and not self.encryption.mixed:
            raise ValueError("encryption.active_key: needed where encryption.mixed is false")
        if self.s3.server_side_encryption == "sse-c" and not (self.s3.customer_key_file or self.s3.customer_key):
            raise ValueError("s3.customer_key_file: needed for sse-c")
        if self.s3.web_identity_token_file and not self.s3.role_arn:
            raise ValueError("s3.role_arn: needed with s3.web_identity_token_file")
        for tenant, given in self.tenants.items():
            self._check_tenant(tenant, given)
        self._check_deidentification()
        if self.audit.key_file and self.audit.key.get_secret_value():
            raise ValueError("audit.key: not together with audit.key_file")
        if bool(self.syslog.client_certificate) != bool(self.syslog.client_key):
            raise ValueError("syslog.client_certificate: to be given together with syslog.client_key")
        _check_names("retention", self.retention)
        _check_names("transition", self.transition)
        _check_names("recompression", self.recompression)
        _check_names("webhooks", self.webhooks)
        self._check_classes()
        beyond = [face for face in ("http", "dimse") if getattr(self, face).host not in LOOPBACK]
        if beyond and self.access.policy_file is None:
            raise ValueError(
                f"access.policy_file: needed because {beyond[0]}.host listens beyond this machine; "
                "see docs/operations.md"
            )
        return self

    def _check_deidentification(self) -> None:
        named = {f"tenants.{tenant}.deidentify": given.deidentify for tenant, given in self.tenants.items()}
        named |= {f"dimse.deidentify.{title}": name for title, name in self.dimse.deidentify.items()}
        for where, name in named.items():
            if name not in self.deidentification and (name or where.startswith("dimse.")):
                raise ValueError(f"{where}: there is no [deidentification.{name}]")

    def _check_classes(self) -> None:
        if self.transition and self.storage.objects != "s3":
            raise ValueError('transition: only with storage.objects = "s3": a directory has no storage classes')
        for number, rule in enumerate(self.transition):
            if not self.s3.endpoint_url and rule.storage_class not in AWS_CLASSES:
                raise ValueError(
                    f"transition.{number}.storage_class: one of {', '.join(AWS_CLASSES)}, got {rule.storage_class!r}; "
                    "other stores than AWS may have others, but s3.endpoint_url names none"
                )

    def _check_tenant(self, tenant: str, given: TenantSettings) -> None:
        of_s3 = [name for name in ("bucket", "prefix", "access_key_id", "role_arn") if getattr(given, name)]
        if of_s3 and self.storage.objects != "s3":
            raise ValueError(f'tenants.{tenant}.{of_s3[0]}: only with storage.objects = "s3"')
        if given.archive_directory and self.storage.objects != "local":
            raise ValueError(f'tenants.{tenant}.archive_directory: only with storage.objects = "local"')
        if bool(given.access_key_id) != bool(given.secret_access_key.get_secret_value()):
            raise ValueError(f"tenants.{tenant}.access_key_id: to be given together with secret_access_key")
        if of_s3 and given.bucket in ("", self.s3.bucket) and _nested(given.prefix, self.s3.prefix):
            raise ValueError(
                f"tenants.{tenant}.prefix: a place of its own in the common bucket lies beside s3.prefix, "
                "which must not be empty then"
            )


def _check_names(section: str, rules: Sequence[Rule | WebhookSettings]) -> None:
    names = [rule.name for rule in rules]
    for name in sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{section}: the name {name!r} stands twice")


def _nested(one: str, other: str) -> bool:
    """Whether one of two prefixes is that of a part of what the other is that of."""
    first, second = (f"{prefix}/" if prefix else "" for prefix in (one, other))
    return first.startswith(second) or second.startswith(first)
