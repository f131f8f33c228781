//! Roles: what one process of several does.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use lethe_terms::SystemName;

use crate::Error;
use crate::published;
use crate::settings::SystemSettings;

/// What a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// API and dashboard.
    Gateway,
    /// Folds a share of the lineage partitions, and answers for them.
    Lineage,
    /// Carries a share of the cases on.
    Conductor,
    /// Signs and sequences; one writer.
    Ledger,
    /// Takes in what programs publish by themselves, for the systems that are published so.
    Intake,
    /// Hosts the connectors of all other systems, or of some.
    Connectors,
}

impl Role {
    /// All roles, in the order of their work.
    pub const ALL: [Self; 6] = [
        Self::Gateway,
        Self::Lineage,
        Self::Conductor,
        Self::Ledger,
        Self::Intake,
        Self::Connectors,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Lineage => "lineage",
            Self::Conductor => "conductor",
            Self::Ledger => "ledger",
            Self::Intake => "intake",
            Self::Connectors => "connectors",
        }
    }
}

/// The roles of one process, and which systems it hosts where it does not host every one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    roles: BTreeSet<Role>,
    /// None is all of them.
    systems: BTreeSet<SystemName>,
}

impl Roles {
    /// Everything in one process.
    pub fn all() -> Self {
        Self {
            roles: Role::ALL.into(),
            systems: BTreeSet::new(),
        }
    }

    /// These roles, and of the connectors those of these systems; none named is all of them.
    ///
    /// # Errors
    /// Where a name is no role, or systems are named for a process that does not choose; in words.
    pub fn named(roles: &[String], systems: &[SystemName]) -> Result<Self, String> {
        let roles: BTreeSet<Role> = match roles {
            [] => Role::ALL.into(),
            named => named.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        };
        let chosen = Self {
            roles,
            systems: systems.iter().cloned().collect(),
        };
        if chosen.systems.is_empty() || (chosen.has(Role::Connectors) && !chosen.is_all()) {
            return Ok(chosen);
        }
        Err("--system goes with --role connectors: one process hosts some of the systems, and others host the rest".to_owned())
    }

    /// Whether the process has this role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether this process hosts a system's connector.
    pub(crate) fn hosts(&self, system: &SystemSettings) -> bool {
        if published::is_published(system) {
            return self.has(Role::Intake);
        }
        self.has(Role::Connectors) && (self.systems.is_empty() || self.systems.contains(&system.name))
    }

    /// Whether this process hosts any connectors.
    pub(crate) fn host(&self) -> bool {
        self.has(Role::Connectors) || self.has(Role::Intake)
    }

    /// What remains without hosting, and the hosting; nothing where the process has only one of both, or does everything.
    pub(crate) fn apart(&self) -> Option<(Self, Self)> {
        let hosts = |role: &Role| matches!(role, Role::Connectors | Role::Intake);
        let (hosting, rest): (BTreeSet<_>, BTreeSet<_>) = self.roles.iter().partition(|role| hosts(role));
        if self.is_all() || hosting.is_empty() || rest.is_empty() {
            return None;
        }
        let rest = Self {
            roles: rest,
            systems: BTreeSet::new(),
        };
        let hosting = Self {
            roles: hosting,
            systems: self.systems.clone(),
        };
        Some((rest, hosting))
    }

    /// Refuses a system that this process is to host and no host can have.
    ///
    /// # Errors
    /// [`Error::UnknownSystem`], with the names of those that one can.
    pub(crate) fn check(&self, systems: &[SystemSettings]) -> Result<(), Error> {
        let hosted = systems.iter().filter(|system| !published::is_published(system));
        let known: Vec<&str> = hosted.map(|system| system.name.as_str()).collect();
        let is_unknown = |name: &&SystemName| !known.contains(&name.as_str());
        let Some(unknown) = self.systems.iter().find(is_unknown) else {
            return Ok(());
        };
        let known = if known.is_empty() {
            "there is none".to_owned()
        } else {
            format!("one of {}", known.join(", "))
        };
        Err(Error::UnknownSystem {
            system: unknown.clone(),
            known,
        })
    }

    /// Whether the process does everything: nobody else then has to be told anything over the log.
    pub fn is_all(&self) -> bool {
        self.roles.len() == Role::ALL.len()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.roles.iter().map(|role| role.name()).collect();
        f.write_str(&names.join(", "))
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|role| role.name()).collect();
                format!(
                    "{text} is no role of a process: expected one of {}",
                    known.join(", ")
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(roles: &[&str], systems: &[&str]) -> Result<Roles, String> {
        let roles: Vec<_> = roles.iter().map(|role| (*role).to_owned()).collect();
        let systems: Vec<_> = systems.iter().map(|name| name.parse().unwrap()).collect();
        Roles::named(&roles, &systems)
    }

    #[test]
    fn no_role_is_every_role_and_an_unknown_one_is_refused_with_the_known_ones() {
        assert!(named(&[], &[]).unwrap().is_all());
        let two = named(&["ledger", "conductor"], &[]).unwrap();
        assert!(two.has(Role::Ledger) && !two.has(Role::Gateway) && !two.is_all());
        assert_eq!(two.to_string(), "conductor, ledger");
        let refused = named(&["proxy"], &[]).unwrap_err();
        assert!(refused.contains("intake, connectors"), "{refused}");
    }

    #[test]
    fn a_process_that_hosts_and_does_more_can_be_taken_apart() {
        let both = named(&["gateway", "intake", "connectors"], &["shop"]).unwrap();
        let (rest, hosting) = both.apart().unwrap();
        assert_eq!(rest, named(&["gateway"], &[]).unwrap());
        assert_eq!(hosting, named(&["intake", "connectors"], &["shop"]).unwrap());
        for whole in [&["gateway", "ledger"][..], &["intake"], &[]] {
            assert_eq!(named(whole, &[]).unwrap().apart(), None, "{whole:?}");
        }
    }

    #[test]
    fn systems_are_chosen_by_a_process_that_hosts_some() {
        let some = named(&["connectors"], &["shop"]).unwrap();
        assert!(some.host() && !some.is_all());
        assert!(named(&[], &["shop"]).is_err(), "it hosts every system");
        assert!(named(&["gateway"], &["shop"]).is_err(), "it hosts none");
        let system = |name: &str, kind: &str| -> SystemSettings {
            toml::from_str(&format!("name = \"{name}\"\nkind = \"{kind}\"")).unwrap()
        };
        let configured = [
            system("crm", "sql"),
            system("app", published::KIND),
            system("site", "weblog"),
        ];
        let refused = some.check(&configured).unwrap_err().to_string();
        assert!(
            refused.starts_with("--system shop: ") && refused.ends_with("one of crm, site"),
            "{refused}"
        );
        named(&["connectors"], &["site"])
            .unwrap()
            .check(&configured)
            .unwrap();
        let published = named(&["connectors"], &["app"]).unwrap();
        assert!(published.check(&configured).is_err(), "no host has it");
    }
}
