"""Seeds and generators follow from keys alone."""
import random
import re

import torch

from gradaug_timm.seeding import generator, random_of, seed_of


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


def test_a_generator_of_python_has_the_draws_of_its_key_and_no_other():
    first, again, other = random_of(7, 3), random_of(7, 3), random_of(7, 4)
    draws = [first.random() for _ in range(3)]
    assert draws == [again.random() for _ in range(3)] != [other.random() for _ in range(3)]
    assert random_of('crops', 1, 2).random() == random.Random('crops/1/2').random()


def test_generators_are_made_in_one_file(project_root):
    made = re.compile(r'torch\.Generator\(|default_rng\(\w|random\.Random\(')
    files = [path for path in (project_root / 'gradaug_timm').rglob('*.py') if made.search(path.read_text())]
    assert {path.name for path in files} == {'seeding.py', 'digits.py'}, 'digits.py splits its data with NumPy'
