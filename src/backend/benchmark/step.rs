use super::cases::Cases;

pub fn cases(_: &mut Cases) {}
