"""The zoo, written in the DSL: every model there is, on one page. To add one, write it in a file of its family and name it here."""

# Classifiers of images, from the first ones to cells that were searched for
from .alexnet import alexnet, alexnet_single
from .amoebanet import amoebanet_a, amoebanet_a_small
from .deepface import deepface
from .googlenet import googlenet, googlenet_auxiliary, googlenet_paper
from .group_equivariant import p4_cnn
from .inception_v3 import inception_v3, inception_v3_auxiliary
from .inception_v4 import inception_v4
from .lecun_net3 import lecun_net3
from .lenet5 import lenet5
from .mlp import mlp
from .nin import nin_cifar10, nin_imagenet
from .squeezenet import squeezenet1_0, squeezenet1_1
from .vgg import vgg11, vgg13, vgg16, vgg16_bn, vgg19

# isort: split
# Classifiers of images with residual or dense connections
from .botnet import botnet50
from .convnext import convnext_small, convnext_tiny
from .densenet import densenet121, densenet169, densenet201
from .non_local import nonlocal_resnet50
from .resnet import resnet18, resnet34, resnet50, resnet101, resnet152
from .resnet_v2 import resnet50_v2, resnet101_v2, resnet152_v2, resnet164_v2
from .resnext import resnext50_32x4d, resnext101_32x8d
from .se_resnet import se_resnet50, se_resnet101
from .wide_resnet import wide_resnet50_2

# isort: split
# Classifiers of images for mobile devices
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
from .mnasnet import mnasnet1_0, mnasnet_a1
from .mobilenet_v1 import mobilenet_v1, mobilenet_v1_050
from .mobilenet_v2 import mobilenet_v2
from .mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from .shufflenet_v2 import shufflenet_v2_x0_5, shufflenet_v2_x1_0, shufflenet_v2_x1_5, shufflenet_v2_x2_0

# isort: split
# A class for every pixel
from .deeplab import deeplab_v3_resnet50, deeplab_v3_resnet101
from .fcn import fcn8s, fcn16s, fcn32s
from .unet import unet, unet_resize

# isort: split
# Images, made or continued
from .conv_lstm import conv_lstm1, conv_lstm2, conv_lstm3, conv_lstm_cell
from .dcgan import dcgan_discriminator, dcgan_generator
from .pixelcnn import pixelcnn, pixelcnn_cifar10
from .vae import vae, vae_decoder, vae_encoder

# isort: split
# Sound, text, video, graphs
from .c3d import c3d
from .gcn import gcn
from .keyword_cnn import keyword_cnn, keyword_cnn_sound
from .text_cnn import text_cnn
from .video_resnet import mc3_18, r2plus1d_18, r3d_18
from .waveform import waveform_m3, waveform_m5, waveform_m11, waveform_m18

__all__ = [
    "alexnet",
    "alexnet_single",
    "amoebanet_a",
    "amoebanet_a_small",
    "botnet50",
    "c3d",
    "conv_lstm1",
    "conv_lstm2",
    "conv_lstm3",
    "conv_lstm_cell",
    "convnext_small",
    "convnext_tiny",
    "dcgan_discriminator",
    "dcgan_generator",
    "deepface",
    "deeplab_v3_resnet50",
    "deeplab_v3_resnet101",
    "densenet121",
    "densenet169",
    "densenet201",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "fcn8s",
    "fcn16s",
    "fcn32s",
    "gcn",
    "googlenet",
    "googlenet_auxiliary",
    "googlenet_paper",
    "inception_v3",
    "inception_v3_auxiliary",
    "inception_v4",
    "keyword_cnn",
    "keyword_cnn_sound",
    "lecun_net3",
    "lenet5",
    "mc3_18",
    "mlp",
    "mnasnet1_0",
    "mnasnet_a1",
    "mobilenet_v1",
    "mobilenet_v1_050",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "nin_cifar10",
    "nin_imagenet",
    "nonlocal_resnet50",
    "p4_cnn",
    "pixelcnn",
    "pixelcnn_cifar10",
    "r2plus1d_18",
    "r3d_18",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet50_v2",
    "resnet101",
    "resnet101_v2",
    "resnet152",
    "resnet152_v2",
    "resnet164_v2",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "se_resnet50",
    "se_resnet101",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    "squeezenet1_0",
    "squeezenet1_1",
    "text_cnn",
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
    "waveform_m3",
    "waveform_m5",
    "waveform_m11",
    "waveform_m18",
    "wide_resnet50_2",
]
