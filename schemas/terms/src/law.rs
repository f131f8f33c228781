//! Rights, grounds and legal bases.

use crate::vocabulary::closed_list;

/// A norm as lawyers write it: `17-1-b` is `Art. 17(1)(b)`.
pub fn norm(code: &str) -> String {
    let mut parts = code.split('-');
    let article = parts.next().unwrap_or_default();
    let rest: String = parts.map(|part| format!("({part})")).collect();
    format!("Art. {article}{rest}")
}

closed_list! {
    /// The right that a case answers to.
    Right as "right" {
        /// Erasure (GDPR Art. 17).
        Erasure = "erasure", "eu-gdpr:A17";
        /// Restriction of processing (GDPR Art. 18).
        Restriction = "restriction", "eu-gdpr:A18";
    }
}

closed_list! {
    /// Why erasure is due (GDPR Art. 17(1)).
    ErasureGround as "erasure ground" {
        /// No longer necessary.
        NotNecessary = "17-1-a", "eu-gdpr:A17-1-a";
        /// Consent withdrawn, no other basis.
        ConsentWithdrawn = "17-1-b", "eu-gdpr:A17-1-b";
        /// Objection under Art. 21(1) without overriding grounds, or 21(2).
        Objected = "17-1-c", "eu-gdpr:A17-1-c";
        /// Unlawfully processed.
        Unlawful = "17-1-d", "eu-gdpr:A17-1-d";
        /// A legal duty to erase.
        LegalDuty = "17-1-e", "eu-gdpr:A17-1-e";
        /// Collected from a child for information-society services.
        Child = "17-1-f", "eu-gdpr:A17-1-f";
    }
}

closed_list! {
    /// Why restriction is due (GDPR Art. 18(1)).
    RestrictionGround as "restriction ground" {
        /// Accuracy contested, for the time of verification.
        AccuracyContested = "18-1-a", "eu-gdpr:A18-1-a";
        /// Unlawful, and the person opposes erasure.
        UnlawfulErasureOpposed = "18-1-b", "eu-gdpr:A18-1-b";
        /// No longer needed here, but by the person for legal claims.
        NeededForClaims = "18-1-c", "eu-gdpr:A18-1-c";
        /// Objection pending.
        ObjectionPending = "18-1-d", "eu-gdpr:A18-1-d";
    }
}

closed_list! {
    /// On what basis data is processed (GDPR Art. 6(1)).
    LegalBasis as "legal basis" {
        /// Consent.
        Consent = "6-1-a", "eu-gdpr:A6-1-a";
        /// Contract.
        Contract = "6-1-b", "eu-gdpr:A6-1-b";
        /// Legal obligation.
        LegalObligation = "6-1-c", "eu-gdpr:A6-1-c";
        /// Vital interests.
        VitalInterest = "6-1-d", "eu-gdpr:A6-1-d";
        /// Public task.
        PublicTask = "6-1-e", "eu-gdpr:A6-1-e";
        /// Legitimate interests.
        LegitimateInterest = "6-1-f", "eu-gdpr:A6-1-f";
    }
}
