//! How a closed list is declared, and the lists that describe data.

use std::fmt;

/// A term of the Data Privacy Vocabulary 2.3 or its GDPR extension, as a prefixed name such as `dpv:Erase`.
pub type DpvCode = &'static str;

/// A word that is not in the closed list that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what}: expected one of {known}")]
pub struct UnknownWord {
    /// What kind of word was expected, such as `verb`.
    pub what: &'static str,
    /// The known words, comma-separated.
    pub known: String,
}

impl UnknownWord {
    /// An error that names the words that would have been right.
    pub fn new(what: &'static str, known: &[&'static str]) -> Self {
        Self {
            what,
            known: known.join(", "),
        }
    }
}

/// Declares a closed list: enum, wire codes, DPV codes, parsing with an error that lists what is known, and serde.
macro_rules! closed_list {
    (
        $(#[$meta:meta])* $name:ident as $what:literal {
            $( $(#[$vmeta:meta])* $variant:ident = $code:literal $(, $dpv:literal)? ; )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
                 schemars::JsonSchema)]
        pub enum $name { $( $(#[$vmeta])* #[serde(rename = $code)] $variant, )+ }

        impl $name {
            /// Every word of the list, in its declared order.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];
            /// The wire codes, in the same order.
            pub const CODES: &'static [&'static str] = &[ $( $code, )+ ];

            /// The word as it stands on the wire.
            pub const fn code(self) -> &'static str { match self { $( Self::$variant => $code, )+ } }

            /// The DPV term, where DPV has one.
            pub const fn dpv(self) -> Option<$crate::vocabulary::DpvCode> {
                match self { $( Self::$variant => $crate::vocabulary::optional!($($dpv)?), )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.code()) }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::vocabulary::UnknownWord;
            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $( $code => Ok(Self::$variant), )+
                    _ => Err($crate::vocabulary::UnknownWord::new($what, Self::CODES)),
                }
            }
        }
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:literal) => {
        Some($value)
    };
}

pub(crate) use {closed_list, optional};

closed_list! {
    /// Category of personal data (GDPR Art. 4(1)), coded by DPV's personal-data extension.
    DataCategory as "data category" {
        /// Name of a person.
        Name = "name", "pd:Name";
        /// E-mail address.
        EmailAddress = "email_address", "pd:EmailAddress";
        /// Telephone number.
        TelephoneNumber = "telephone_number", "pd:TelephoneNumber";
        /// Postal address.
        PhysicalAddress = "physical_address", "pd:PhysicalAddress";
        /// Account identifier, user name.
        AccountIdentifier = "account_identifier", "pd:AccountIdentifier";
        /// Internet-protocol address, abbreviated or whole.
        IpAddress = "ip_address", "pd:IPAddress";
        /// Device and browser, such as the user-agent string.
        DeviceBased = "device", "pd:DeviceBased";
        /// Which pages were seen, when, and from where.
        BrowsingBehavior = "browsing_behavior", "pd:BrowsingBehavior";
        /// Orders and what was bought.
        Purchase = "purchase", "pd:Purchase";
        /// Payments and account numbers.
        FinancialAccount = "financial_account", "pd:FinancialAccount";
        /// Messages, tickets, conversations.
        Communication = "communication", "pd:Communication";
        /// Cookie or other online identifier.
        OnlineIdentifier = "online_identifier", "pd:Identifying";
    }
}

closed_list! {
    /// Why data is processed (GDPR Art. 5(1)(b)).
    Purpose as "purpose" {
        /// Fulfilling a contract with the person.
        ContractPerformance = "contract_performance", "dpv:FulfilmentOfContractualObligation";
        /// Keeping the website and its servers secure.
        Security = "security", "dpv:EnforceSecurity";
        /// Running and improving the service.
        ServiceProvision = "service_provision", "dpv:ServiceProvision";
        /// Helping customers.
        CustomerSupport = "customer_support", "dpv:CustomerCare";
        /// Measuring how the website is used.
        WebAnalytics = "web_analytics", "dpv:ServiceUsageAnalytics";
        /// Keeping books as tax and commercial law demand.
        LegalObligation = "legal_obligation", "dpv:FulfilmentOfObligation";
        /// Advertising.
        Marketing = "marketing", "dpv:Marketing";
    }
}

/// Writes `kind(redacted)`: what `Debug` of anything personal shows.
pub(crate) fn redacted(f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
    write!(f, "{kind}(redacted)")
}
