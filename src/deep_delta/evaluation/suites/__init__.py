"""Questions with known answers, beyond the loss: language, logic, and other people's tasks."""
