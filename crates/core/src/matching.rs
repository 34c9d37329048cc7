//! Offer matching: requests against offers, as a function of plain values.
