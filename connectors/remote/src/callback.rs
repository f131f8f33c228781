//! Callbacks: the program says, signed, that an instruction that it had accepted is worth asking about.

use lethe_terms::InstructionId;

use crate::config::Config;
use crate::error::Error;
use crate::webhook::{Headers, Keys, Unsigned};
use crate::wire::now_s;

/// The keys of one system, by which its callbacks are told from anybody else's.
#[derive(Debug)]
pub struct CallbackKeys(Keys);

impl CallbackKeys {
    /// Reads the key file of the system.
    ///
    /// # Errors
    /// Where the settings cannot serve.
    pub fn open(config: &Config) -> Result<Self, Error> {
        config.open().map(|opened| Self(opened.keys))
    }

    /// Whether a callback is the system's, is about this instruction, and was sent now. The body says nothing that is believed.
    ///
    /// # Errors
    /// Why it is not taken for the system's.
    pub fn verify(&self, headers: &Headers, instruction: InstructionId, body: &[u8]) -> Result<(), Unsigned> {
        self.0.verify(headers, &instruction.to_string(), now_s(), body)
    }
}
