"""For those who test against Feilun: in-memory fakes, and the exam of each port."""
