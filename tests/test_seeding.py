"""Seeds and generators follow from keys alone."""
import torch

from gradaug_timm.seeding import generator, seed_of


def test_seeds_stay_what_they_were():
    assert seed_of(42, 'order', 0) == 6974187527090028977  # runs of older versions resume with it


def test_a_generator_draws_what_its_key_says():
    first, again, other = (torch.rand(8, generator=generator(*key)) for key in ((1, 'a'), (1, 'a'), (1, 'b')))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first, torch.rand(8, generator=torch.Generator().manual_seed(seed_of(1, 'a'))))


def test_a_generator_leaves_the_global_ones_alone():
    state = torch.get_rng_state()
    torch.rand(8, generator=generator(1))
    assert torch.equal(state, torch.get_rng_state()) and generator(1, device='cpu').device == torch.device('cpu')
