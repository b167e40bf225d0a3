//! Documents as captured from Patroni 3 and 4, and every row of section 9.
