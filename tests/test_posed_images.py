"""A field from images with known cameras, as in NeRF, tested on known densities."""

import numpy as np
import pytest
import torch

from m2m.evaluate.metrics import pearson
from m2m.field.network import FieldNetwork
from m2m.field.posed_images import PosedImage, crossing, fit_images, gather_rays, render_rays
from m2m.field.render import Camera, integrate
from m2m.field.sample import on_grid
from m2m.field.slice_samples import Box
from m2m.io.errors import DataError
from m2m.options import SliceField

BOX = Box(np.array([-25.0, -25, -20]), np.array([25.0, 25, 20]))
# Centre and standard deviation in mm of two Gaussian blobs.
BLOBS = (((-9.0, 6, 4), 5.0), ((10.0, -7, -5), 7.0))
FEW = SliceField(features=2, hidden=(16,), spacings=(2, 3.6, 6.8), steps=150, batch_size=4096)
MIDDLE = np.zeros(3)


def density(points_mm):
    """Of both blobs, shape (N,)."""
    return sum(np.exp(-((points_mm - np.array(c)) ** 2).sum(-1) / (2 * s**2)) for c, s in BLOBS)


def projection(camera):
    """Image of the blobs by their line integrals: the integral of a Gaussian is known."""
    starts, into = (x.numpy().astype(float) for x in camera.rays(MIDDLE, 0))
    total = 0.0
    for centre, s in BLOBS:
        off = starts - np.array(centre)
        squared = (off**2).sum(-1) - (off @ into) ** 2
        total = total + np.sqrt(2 * np.pi) * s * np.exp(-squared / (2 * s**2))
    pixels = camera.pixels
    return PosedImage(total.reshape(pixels, pixels, 1).astype(np.float32), camera, MIDDLE)


def cameras(n):
    """Cameras around the participant, with alternating elevation."""
    return [Camera(180 * k / n, (0, 35, -35)[k % 3], 70, 28) for k in range(n)]


def recovered(n):
    """Correlation of the field from n projections with the density, over the box."""
    network = fit_images([projection(c) for c in cameras(n)], BOX, FEW, quiet=True)
    affine = np.diag([5.0, 5, 5, 1])
    affine[:3, 3] = BOX.low_mm
    found = on_grid(network, affine, (11, 11, 9)).data[..., 0]
    points = np.moveaxis(np.indices((11, 11, 9)), 0, -1) * 5.0 + BOX.low_mm
    assert found.min() >= 0
    return pearson(found, density(points))


def test_two_blobs_are_recovered_from_sixteen_projections_better_than_from_three():
    few, many = recovered(3), recovered(16)
    assert many > 0.98
    # Unexplained variance.
    assert 1 - many**2 < 0.6 * (1 - few**2)


def test_colours_of_rendered_views_are_recovered_with_the_density():
    """A red and a blue ball, from opposite sides: each occludes the other."""
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])

    def balls(points_mm):
        shares = [
            torch.exp(-(points_mm - torch.tensor(c)).square().sum(-1) / (2 * 6.0**2))
            for c in ((-10.0, 0, 0), (10.0, 0, 0))
        ]
        colour = torch.where((points_mm[:, 0] < 0)[:, None], red, blue)
        return 0.3 * (shares[0] + shares[1]), colour

    images = []
    for camera in cameras(12):
        starts, into = camera.rays(MIDDLE, 80)
        colour = integrate(balls, starts, into, 80, 1.0).colour.numpy()
        images.append(PosedImage(colour.reshape(28, 28, 3), camera, MIDDLE))
    network = fit_images(images, BOX, FEW, quiet=True)
    # From a direction without an image.
    starts, into = Camera(97, 10, 70, 28).rays(MIDDLE, 80)
    wanted = integrate(balls, starts, into, 80, 1.0).colour
    with torch.inference_mode():
        found = render_rays(network, starts, into, 80, 2.0).colour
    assert pearson(found.ravel(), wanted.ravel()) > 0.9
    left, right = network(torch.tensor([[-10.0, 0, 0], [10.0, 0, 0]])).detach()
    assert left[1] > 2 * left[3] and right[3] > 2 * right[1]
    assert network.perceptron[-1].out_features == 4


def test_the_rendering_of_a_field_ends_at_its_box():
    network = FieldNetwork(BOX, (50.0,), 1, (), 1, 1 << 10, positive=True)
    for weight in network.parameters():
        weight.data.fill_(0.0)
    network.perceptron[0].bias.data.fill_(2.0)
    start, into = torch.tensor([[-60.0, 0, 0]]), torch.tensor([1.0, 0, 0])
    depth = render_rays(network, start, into, 120, 0.5).depth.detach()
    assert float(depth) == pytest.approx(2.0 * 50, rel=0.02)


def test_rays_enter_and_leave_a_box_where_its_faces_are():
    starts = np.array([[-60.0, 0, 0], [-60, 30, 0], [0, 0, 0]])
    near, far = crossing(starts, np.array([1.0, 0, 0]), BOX)
    assert near[[0, 2]].tolist() == [35, -25] and far[[0, 2]].tolist() == [85, 25]
    assert near[1] > far[1]


def test_rays_start_at_the_box_and_have_their_own_pixel():
    images = [projection(camera) for camera in cameras(4)]
    rays = gather_rays(images, BOX)
    middle = rays.starts + rays.into * rays.length_mm / 2
    assert (BOX.holds(rays.starts) | BOX.holds(rays.starts + 0.01 * rays.into)).all()
    assert len(middle) < 4 * 28**2 and rays.length_mm < np.linalg.norm(BOX.high_mm - BOX.low_mm)
    along = np.linspace(0, rays.length_mm, 400)[:, None, None]
    summed = density(rays.starts + along * rays.into).sum(0) * rays.length_mm / 400
    assert pearson(summed, rays.values) > 0.99


def posed_image(fill=1.0, pixels=8, centre=(0, 0, 0), channels=1):
    image = np.full((pixels, pixels, channels), fill, np.float32)
    return PosedImage(image, Camera(0, 0, 60, 8), np.array(centre, float))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([posed_image()], "at least two images"),
        ([posed_image(), posed_image(np.nan)], "image 1 holds NaN or infinity"),
        ([posed_image(), posed_image(np.inf)], "image 1 holds NaN or infinity"),
        ([posed_image(), posed_image(centre=(200, 0, 0))], "image 1 has no ray through the box"),
        ([posed_image(), posed_image(pixels=9)], "image 1 has not the size of its camera"),
        ([posed_image(), posed_image(channels=3)], "image 1 has not the size of its camera"),
        ([posed_image(0.0), posed_image(0.0)], "every image is black"),
    ],
)
def test_images_that_do_not_define_a_field_are_refused(images, message):
    with pytest.raises(DataError, match=message):
        gather_rays(images, BOX)
