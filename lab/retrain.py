"""Trains the lab's networks anew: python -m lab.retrain [NAME ...] [--threads N]

Without a name all of them, one after the other; a fine-tune begins from the stored weights of its base.
"""

import argparse

import torch

from . import train, train_adapters

TRAINERS = {
    "autoencoder": train.train_autoencoder,
    "source": train.train_source,
    "adapted": train.train_adapted,
    "target": train.train_target,
    "oracle": train.train_oracle,
    "flow_target": train.train_flow_target,
    "flow_oracle": train.train_flow_oracle,
    "sibling": train.train_sibling,
    "small_source": train.train_small_source,
    "small_adapted": train.train_small_adapted,
    "judge": train.train_judge,
    "large_autoencoder": train.train_large_autoencoder,
    "large_target": train.train_large_target,
    "large_oracle": train.train_large_oracle,
    "large_judge": train.train_large_judge,
    "source_lora": train_adapters.train_source_lora,
    "banded_lora": train_adapters.train_banded_lora,
    "both_oracle": train_adapters.train_both_oracle,
    "source_few_steps": train_adapters.train_source_few_steps,
    "source_control": train_adapters.train_source_control,
    "target_control": train_adapters.train_target_control,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*TRAINERS, []], metavar="NAME", help=", ".join(TRAINERS))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.names or TRAINERS:
        TRAINERS[name]()


if __name__ == "__main__":
    main()
