"""What the kinds of findings (`engine.health`) mean, for someone who has never seen one: a sentence or two each."""

MEANINGS = {
    "loss": "The loss says how wrong the model is on the next token. While it falls the model learns.",
    "reward": "GRPO's loss is near zero by construction; what should rise is the reward.",
    "flat": "The loss stays where it began: the model does not learn from these rows with these settings.",
    "spiking": "The loss jumps far above what it was and comes back. One spike is harmless; many say that the steps are "
    "too large or that some rows are odd.",
    "nonfinite": "A loss that is no longer a number ruins the weights: every step after it would train nothing. The cause "
    "is most often too large a step, or numbers too large for the precision.",
    "rate_high": "The steps are so large that they overshoot: the loss rises or wanders instead of falling.",
    "rate_low": "The steps are so small that the model hardly moves; the run would need many times as long.",
    "frozen": "The weights that should be trained stay as they were: whatever the loss says, nothing is learnt.",
    "gradient": "The gradient says how far each step wants to go. One that grows tenfold announces a loss that explodes; "
    "one that vanishes means that nothing is left to learn from.",
    "over_fitting": "The model learns these rows by heart: it gets better on what it trains on and worse on rows that it "
    "has not seen. The checkpoint with the lowest eval loss is the one to use.",
    "forgetting": "What the model could do before it was fine-tuned gets worse. Some of it is the price of learning; much "
    "of it says that the steps are too large or too many.",
    "waiting": "The training waits until rows are read and prepared, and the card does nothing meanwhile.",
    "idle": "The card is busy for less than half of the time: the steps are too small for it.",
    "throttling": "The card lowers its clock, as it is too hot or draws all the power it may.",
    "memory": "Near its end, one long row more ends the run; far from it, a larger micro-batch trains the same rows a "
    "little faster.",
    "padding": "Rows of a batch are filled up to the longest of them; the card computes on the filling too.",
    "slow": "Like runs were faster on this machine: something else uses it, or it is held back.",
}
