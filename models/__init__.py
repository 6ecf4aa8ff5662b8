"""The zoo, written in the DSL: every model there is, on one page. To add one, write it in a file of its family and name it here."""

from .alexnet import alexnet, alexnet_single
from .conv_lstm import conv_lstm1, conv_lstm2, conv_lstm3, conv_lstm_cell
from .dcgan import dcgan_discriminator, dcgan_generator
from .efficientnet import (
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    efficientnet_b4,
    efficientnet_b5,
    efficientnet_b6,
    efficientnet_b7,
)
from .lenet5 import lenet5
from .locally_connected import deepface, net3
from .mnasnet import mnasnet1_0, mnasnet_a1
from .mobilenet_v2 import mobilenet_v2
from .mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from .pixelcnn import pixelcnn, pixelcnn_cifar10
from .resnet import resnet18, resnet34, resnet50, resnet101, resnet152
from .shufflenet_v2 import shufflenet_v2_x0_5, shufflenet_v2_x1_0, shufflenet_v2_x1_5, shufflenet_v2_x2_0
from .squeezenet import squeezenet1_0, squeezenet1_1
from .unet import unet, unet_resize
from .vae import vae, vae_decoder, vae_encoder
from .vgg import vgg11, vgg13, vgg16, vgg16_bn, vgg19

__all__ = [
    "alexnet",
    "alexnet_single",
    "conv_lstm1",
    "conv_lstm2",
    "conv_lstm3",
    "conv_lstm_cell",
    "dcgan_discriminator",
    "dcgan_generator",
    "deepface",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "lenet5",
    "mnasnet1_0",
    "mnasnet_a1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "net3",
    "pixelcnn",
    "pixelcnn_cifar10",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    "squeezenet1_0",
    "squeezenet1_1",
    "unet",
    "unet_resize",
    "vae",
    "vae_decoder",
    "vae_encoder",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg16_bn",
    "vgg19",
]
