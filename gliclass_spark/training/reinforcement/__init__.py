"""Reinforcement learning from rewards: PPO, and the policy, rollouts and rewards that it is made of. No Spark."""
