//! Roles: what one process of several does.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What a process can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// API and dashboard.
    Gateway,
    /// Folds a share of the lineage partitions, and answers for them.
    Lineage,
    /// Carries cases on.
    Conductor,
    /// Signs and sequences; one writer.
    Ledger,
    /// Hosts the connectors of all systems, and takes in what they publish.
    Connectors,
}

impl Role {
    /// All roles, in the order of their work.
    pub const ALL: [Self; 5] = [
        Self::Gateway,
        Self::Lineage,
        Self::Conductor,
        Self::Ledger,
        Self::Connectors,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Lineage => "lineage",
            Self::Conductor => "conductor",
            Self::Ledger => "ledger",
            Self::Connectors => "connectors",
        }
    }
}

/// The roles of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Everything in one process.
    pub fn all() -> Self {
        Self(Role::ALL.into())
    }

    /// These roles; none of them named is all of them.
    ///
    /// # Errors
    /// Where a name is no role; in words.
    pub fn named(names: &[String]) -> Result<Self, String> {
        if names.is_empty() {
            return Ok(Self::all());
        }
        names
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether the process has this role.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether the process does everything: nobody else then has to be told anything over the log.
    pub fn is_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|role| role.name()).collect();
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
                let own = if text == "intake" {
                    "what connectors publish is taken in by the process that hosts them: "
                } else {
                    ""
                };
                format!(
                    "{text} is no role of a process: {own}expected one of {}",
                    known.join(", ")
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_role_is_every_role_and_an_unknown_one_is_refused_with_the_known_ones() {
        assert!(Roles::named(&[]).unwrap().is_all());
        let two = Roles::named(&["ledger".into(), "conductor".into()]).unwrap();
        assert!(two.has(Role::Ledger) && !two.has(Role::Gateway) && !two.is_all());
        assert_eq!(two.to_string(), "conductor, ledger");
        let refused = Roles::named(&["intake".into()]).unwrap_err();
        assert!(
            refused.contains("that hosts them") && refused.contains("connectors"),
            "{refused}"
        );
    }
}
