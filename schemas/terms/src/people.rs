//! Identifiers: values that find a person in a system.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::IssuerName;
use crate::vocabulary::{closed_list, redacted};

closed_list! {
    /// Kind of an identifier. The kind decides how a value is normalised and how far a walk follows it.
    IdentifierKind as "identifier kind" {
        /// E-mail address.
        Email = "email", "pd:EmailAddress";
        /// Telephone number, E.164 once normalised.
        Phone = "phone", "pd:TelephoneNumber";
        /// The company's own account id or user name.
        UserId = "user_id", "pd:AccountIdentifier";
        /// Id of a contact in a CRM or chat.
        ContactId = "contact_id", "pd:Identifying";
        /// Id that a cookie carries.
        CookieId = "cookie_id", "pd:Identifying";
        /// Id of a device.
        DeviceId = "device_id", "pd:DeviceBased";
        /// Whole internet-protocol address.
        Ip = "ip", "pd:IPAddress";
        /// Abbreviated internet-protocol address: the network part that a log keeps.
        IpAbbreviated = "ip_abbreviated", "pd:IPAddress";
    }
}

closed_list! {
    /// How far a walk follows an identifier.
    Strength as "strength" {
        /// Names one person: always followed.
        Strong = "strong";
        /// Usually one person: followed up to a fan-out limit.
        Weak = "weak";
        /// Several people behind it: never followed.
        Shared = "shared";
    }
}

impl IdentifierKind {
    /// How far a walk follows identifiers of this kind.
    pub const fn strength(self) -> Strength {
        match self {
            Self::Email | Self::Phone | Self::UserId | Self::ContactId => Strength::Strong,
            Self::CookieId | Self::DeviceId => Strength::Weak,
            Self::Ip | Self::IpAbbreviated => Strength::Shared,
        }
    }

    /// Whether a value of this kind means somebody only together with who gave it. An e-mail address is one person's wherever it stands.
    pub const fn is_issued(self) -> bool {
        match self {
            Self::UserId | Self::ContactId | Self::CookieId | Self::DeviceId => true,
            Self::Email | Self::Phone | Self::Ip | Self::IpAbbreviated => false,
        }
    }
}

/// A kind of identifier with who gives ids of it, written `user_id` or `user_id@forum`. Without an issuer it is the company's own. Two systems that
/// number their people each for itself have two issuers; two that know a person under one id share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuedKind {
    kind: IdentifierKind,
    issuer: Option<IssuerName>,
}

impl IssuedKind {
    /// The kind.
    pub const fn kind(&self) -> IdentifierKind {
        self.kind
    }

    /// Who gives ids of it; nothing where it is the company's own.
    pub const fn issuer(&self) -> Option<&IssuerName> {
        self.issuer.as_ref()
    }

    /// Reads what people type, who write hyphens in a kind.
    ///
    /// # Errors
    /// As when it is parsed.
    pub fn typed(text: &str) -> Result<Self, IssuedKindError> {
        let text = text.trim();
        let kind_ends = text.find('@').unwrap_or(text.len());
        let (kind, issuer) = text.split_at(kind_ends);
        format!("{}{issuer}", kind.replace('-', "_")).parse()
    }

    /// Whether the identifier is one of these.
    pub fn covers(&self, identifier: &Identifier) -> bool {
        self.kind == identifier.kind && self.issuer == identifier.issuer
    }

    /// The identifier of this kind and issuer with a value.
    pub fn with(&self, value: impl Into<String>) -> Identifier {
        Identifier {
            issuer: self.issuer.clone(),
            ..Identifier::new(self.kind, value)
        }
    }
}

impl From<IdentifierKind> for IssuedKind {
    fn from(kind: IdentifierKind) -> Self {
        Self { kind, issuer: None }
    }
}

impl fmt::Display for IssuedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_issued(f, self.kind, self.issuer.as_ref())
    }
}

fn write_issued(f: &mut impl fmt::Write, kind: IdentifierKind, issuer: Option<&IssuerName>) -> fmt::Result {
    f.write_str(kind.code())?;
    issuer.map_or(Ok(()), |issuer| write!(f, "@{issuer}"))
}

/// A text that is no kind of identifier with an issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an identifier kind, one of {}, or an id with its issuer such as user_id@forum", IdentifierKind::CODES.join(", "))]
pub struct IssuedKindError;

impl FromStr for IssuedKind {
    type Err = IssuedKindError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, issuer) = match text.split_once('@') {
            Some((kind, issuer)) => (kind, Some(issuer)),
            None => (text, None),
        };
        let kind: IdentifierKind = kind.parse().map_err(|_| IssuedKindError)?;
        let issuer = issuer.map(str::parse).transpose().map_err(|_| IssuedKindError)?;
        if issuer.is_some() && !kind.is_issued() {
            return Err(IssuedKindError);
        }
        Ok(Self { kind, issuer })
    }
}

impl Serialize for IssuedKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IssuedKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for IssuedKind {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IssuedKind".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A kind of identifier, such as `email`; an id with who gives it where that is not the company itself, such as `user_id@forum`."
        })
    }
}

/// A value that finds a person in one system, with its kind. Personal: `Debug` is redacted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// What kind of value it is.
    pub kind: IdentifierKind,
    /// The value, as the system holds it or normalised; whoever passes it on says which.
    pub value: String,
    /// Who gave the id, where that is not the company itself: the same value by another issuer is somebody else. Of ids only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerName>,
}

impl Identifier {
    /// An identifier of this kind.
    pub fn new(kind: IdentifierKind, value: impl Into<String>) -> Self {
        Self {
            kind,
            value: value.into(),
            issuer: None,
        }
    }

    /// Its kind and issuer.
    pub fn issued_kind(&self) -> IssuedKind {
        IssuedKind {
            kind: self.kind,
            issuer: self.issuer.clone(),
        }
    }

    /// Its kind and issuer as they stand in digests and on the command line: `email`, `user_id@forum`.
    pub fn name(&self) -> String {
        let mut name = String::new();
        // Writing to a text does not fail.
        let _ = write_issued(&mut name, self.kind, self.issuer.as_ref());
        name
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, self.kind.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_an_identifier_is_redacted() {
        let ada = Identifier::new(IdentifierKind::Email, "ada@example.org");
        assert_eq!(format!("{ada:?}"), "email(redacted)");
    }

    #[test]
    fn a_kind_with_an_issuer_reads_back_what_it_prints() {
        for text in ["email", "user_id", "user_id@forum", "contact_id@crm.2"] {
            let kind: IssuedKind = text.parse().unwrap();
            assert_eq!(kind.to_string(), text);
            assert_eq!(kind.with("1").name(), text);
        }
        let typed = IssuedKind::typed(" user-id@my-forum ").map(|kind| kind.to_string());
        assert_eq!(typed.as_deref(), Ok("user_id@my-forum"));
        for wrong in [
            "email@forum",
            "ip@forum",
            "user_id@",
            "user_id@Forum",
            "@forum",
            "user_id@a@b",
        ] {
            assert!(wrong.parse::<IssuedKind>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_kind_names_the_known_ones() {
        let error = "e-mail".parse::<IdentifierKind>().unwrap_err().to_string();
        assert!(error.contains("email") && error.contains("user_id"), "{error}");
    }
}
