"""The version of this release. CHANGELOG.md says what each release contains."""

VERSION = "1.0.0"
