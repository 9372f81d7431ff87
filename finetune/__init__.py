"""Model to model: training adapters, attaching them safely, and scoring what they learnt."""
