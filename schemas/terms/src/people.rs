//! Identifiers: values that find a person in a system.

use std::fmt;

use serde::{Deserialize, Serialize};

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
}

/// A value that finds a person in one system, with its kind. Personal: `Debug` is redacted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// What kind of value it is.
    pub kind: IdentifierKind,
    /// The value, as the system holds it or normalised; whoever passes it on says which.
    pub value: String,
}

impl Identifier {
    /// An identifier of this kind.
    pub fn new(kind: IdentifierKind, value: impl Into<String>) -> Self {
        Self {
            kind,
            value: value.into(),
        }
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
    fn an_unknown_kind_names_the_known_ones() {
        let error = "e-mail".parse::<IdentifierKind>().unwrap_err().to_string();
        assert!(error.contains("email") && error.contains("user_id"), "{error}");
    }
}
